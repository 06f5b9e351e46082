"""List the public names, and write the source pages of the API reference."""

import inspect
import pkgutil
from importlib import import_module

import skaudio

# Modules that are listed first, in this order; others follow alphabetically.
FIRST = ["skaudio", "skaudio.inspection", "skaudio.datasets", "skaudio.audio", "skaudio.dsp"]
KINDS = {"Classes": inspect.isclass, "Functions": inspect.isroutine, "Constants": lambda _: True}
PAGES = {  # file: title, summary, and function that selects modules
    "index": ("API reference", "All public classes and functions.", lambda name: ".nn" not in name),
    "nn": (
        "Torch modules",
        "Building blocks of the networks, for your own networks: tensors in, tensors out.",
        lambda name: ".nn" in name,
    ),
}


def public_modules():
    """Names of modules with public names, in the order of the pages."""
    found = (module.name for module in pkgutil.walk_packages(skaudio.__path__, "skaudio."))
    public = [name for name in found if not any(part[0] == "_" for part in name.split("."))]
    own = [name for name in public if hasattr(import_module(name), "__all__")]
    return FIRST + [name for name in sorted(own) if name not in FIRST]


def public_names():
    """Public names by module; names of `skaudio` itself are listed only there."""
    names = {name: list(import_module(name).__all__) for name in public_modules()}
    for name in names.keys() - {"skaudio"}:
        names[name] = [each for each in names[name] if each not in names["skaudio"]]
    return names


def write_api_pages(folder):
    """Write the pages, whose tables autosummary expands to one page per name.

    Parameters
    ----------
    folder : Path
        Output folder; created if needed. Unchanged pages are not rewritten.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = public_names()
    listed = {f"{module}.{name}" for module in names for name in names[module]}
    for page in (folder / "generated").glob("*.rst"):
        if page.stem not in listed:  # the name was removed
            page.unlink()
    for stem, (title, summary, belongs) in PAGES.items():
        lines = [title, "=" * len(title), "", summary, ""]
        for module in filter(belongs, names):
            lines += _section(module, names[module])
        if stem == "index":
            lines += [".. toctree::", "   :hidden:", "", *(f"   {s}" for s in PAGES if s != stem)]
        page, text = folder / f"{stem}.rst", "\n".join([*lines, ""])
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def _section(name, left):
    """Lines of heading, summary and tables for a module."""
    module = import_module(name)
    summary = inspect.getdoc(module).splitlines()[0]
    lines = [name, "-" * len(name), "", f".. module:: {name}", "", summary, ""]
    for title, is_kind in KINDS.items():
        chosen = [each for each in left if is_kind(getattr(module, each))]
        left = [each for each in left if each not in chosen]
        if chosen:
            lines += [f".. rubric:: {title}", "", ".. autosummary::", "   :toctree: generated", ""]
            lines += [f"   {each}" for each in chosen] + [""]
    return lines
