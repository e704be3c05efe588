import pytest

from fracture_mae.config import Main
from fracture_mae.stages.chain import name_of


@pytest.mark.parametrize(
    ("data_dir", "data"),
    [("synthetic:n_xrays=60,size=96", "synthetic:n_xrays=60,size=96"), ("/data/xrays", "xrays"), ("a/b.csv", "b.csv")],
)
def test_a_chain_is_named_by_what_tells_it_apart(data_dir, data):
    assert name_of(Main(data_dir=data_dir, recipe="original")) == f"main (facebook/vit-mae-base, original, {data})"
