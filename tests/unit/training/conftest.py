import pytest

from tests.lighter import lighter


@pytest.fixture(scope="module", autouse=True)
def _lighter():
    with lighter():
        yield
