"""Sphinx configuration; build with ``python -m sphinx -W -b html docs docs/_build``."""

import sys
from pathlib import Path

from sphinx.util import logging

import skaudio

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from api_pages import public_names, write_api_pages  # noqa: E402

project = "skaudio"
author = "skaudio developers"
project_copyright = f"2026, {author}"
version = release = skaudio.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.py", "gallery/*.zip"]
templates_path = ["_templates"]

# Markdown: `file.md#heading` links as on GitHub, and ::: for directives.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# API: one page per public name. References to missing names of skaudio are errors.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!skaudio\.).*")]
add_module_names = False
toc_object_entries_show_parents = "hide"
autosummary_ignore_module_all = False
autodoc_typehints = "none"  # docstrings contain the types
numpydoc_show_class_members = False
write_api_pages(HERE / "api")

# Gallery: scripts that run within seconds, without network access or real recordings.
sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "gallery/backreferences",
    "doc_module": ("skaudio",),
    "reference_url": {"skaudio": None},
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "min_reported_time": 1,
}

html_context = {"default_mode": "auto"}
html_theme = "pydata_sphinx_theme"
html_title = "skaudio"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
# Pages without subpages would have an empty navigation.
html_sidebars = {
    name: []
    for name in (
        "user_guide",
        "which_tool",
        "benchmarks",
        "reliability",
        "scaling",
        "design",
        "changelog",
    )
}
html_theme_options = {
    "logo": {"text": "skaudio"},
    "header_links_before_dropdown": 5,
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def skip_scikit_learn(app, what, name, obj, skip, options):
    """Skip methods that are defined and documented by scikit-learn."""
    return skip or (getattr(obj, "__module__", None) or "").startswith("sklearn.")


def check_public_names(app, env):
    """Warn about public names without a page; ``-W`` turns this into an error."""
    public = {f"{module}.{name}" for module, names in public_names().items() for name in names}
    for name in sorted(public - set(env.get_domain("py").objects)):
        logging.getLogger(__name__).warning("%s is public but missing from the API pages", name)


def setup(app):
    app.connect("autodoc-skip-member", skip_scikit_learn)
    app.connect("env-check-consistency", check_public_names)
