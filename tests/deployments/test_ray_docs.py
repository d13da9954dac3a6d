"""docs/ray.md runs as it stands, all but what needs a cluster."""

import doc_pages
import pytest
from ray_cases import MISSING

pytest_plugins = ("ray_fixtures",)
assert MISSING  # importing it skips these tests where the extra is not installed


@pytest.mark.usefixtures("on_ray", "here")
def test_the_page_runs():
    assert len(doc_pages.run(doc_pages.parse("docs/ray.md"))) == 2
