import re

import skaudio


def test_show_versions_lists_packages(capsys):
    skaudio.show_versions()
    shown = capsys.readouterr().out
    assert f"skaudio: {skaudio.__version__}" in shown
    assert re.search(r"torchaudio: (\d|not installed)", shown)
    assert "libsndfile" in shown
