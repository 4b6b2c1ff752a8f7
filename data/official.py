"""What the well-known datasets are: their class names, and fingerprints that tell the real one from a look-alike.

A radius is a claim about one image. "MNIST test image 17" only means something if everybody's image 17 is the same. So
data that is loaded under a well-known name is compared with the fingerprint below, wherever it came from.
"""

from maxup_smoothing.data.dataset import Dataset

_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

CLASSES: dict[str, tuple[str, ...]] = {
    "fashion-sample": _FASHION,
    "mnist": tuple("0123456789"),
    "fashion-mnist": _FASHION,
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "cifar100": tuple(_CIFAR100.split()),
}

SIZES: dict[str, dict[str, int]] = {
    "fashion-sample": {"train": 8_000, "test": 2_000},
    "mnist": {"train": 60_000, "test": 10_000},
    "fashion-mnist": {"train": 60_000, "test": 10_000},
    "cifar10": {"train": 50_000, "test": 10_000},
    "cifar100": {"train": 50_000, "test": 10_000},
}

# Dataset.fingerprint of each split. What each rests on, checked by re-making the official files from the arrays:
# - mnist: the four uncompressed IDX files have the MD5s 6bbc9ace898e44ae57da46a324031adb,
#   a25bea736e30d166cdddb491f175f624, 2646ac647ad5339dbf082846283269ea and 27ae3e4e09519cfbb04c329615203637.
# - fashion-mnist: the four uncompressed IDX files are byte for byte those of Debian's package dataset-fashion-mnist
#   (MD5 f4a8712d7a061bf5bd6d2ca38dc4d50a, 9018921c3c673c538a1fc5bad174d6f9, 8181f5470baa50b63fa0f6fddb340f0a,
#   15d484375f8d13e6eb1aabb0c3f46965).
# - cifar10: the six .bin files have the SHA-256 that torchvision-ruby and the SHA-1 that Apache MXNet publish
#   (data_batch_1.bin cee91656..., aadd24ac...; test_batch.bin 8e2eb146..., 67eb016d...).
# - cifar100: none known; only the number of images is checked here, and the archive's hash on download.
FINGERPRINTS: dict[str, dict[str, str]] = {
    "fashion-sample": {
        "train": "80a4e85040720e019717f7da92a1c50dd6e02cb8f04afc4281f9337911301b4e",
        "test": "16648d4c745caff7f86bb528810dd26e8ad3a315f00e5044074093f428d1edd6",
    },
    "mnist": {
        "train": "13c9c9a1443296ba130bb498f931762b45f79cd14dfba4e303d4d4c2d5240c33",
        "test": "8ed012c495ba35b3bda1beeb5a30ca856fc664afd309eb975e356df123186cf3",
    },
    "fashion-mnist": {
        "train": "a926c73f1af2982d6e71b9159a375b7ac4d8ccce5f3b18c0e9d4774800ab6095",
        "test": "07bf58cccd784fd5488088c46984305b0ec157b5ccadd4fdb6e15ccbcd4db393",
    },
    "cifar10": {
        "train": "d23c36b7712a6c7cba326d77532dc3166d520ae2862b2a13ac567aa4a81ae486",
        "test": "33b8c7d4ddba5d658d1dc2091c4e43bf3741cc23d5b6e88fa339dbca6fc16de9",
    },
}


def check(dataset: Dataset, source: str) -> None:
    """Refuse data that goes by a well-known name and is not that data.

    Args:
        dataset: Its ``name`` must be one of ``CLASSES`` and its ``split`` train or test.
        source: The file or folder it came from, for the error message.

    Raises:
        ValueError: If the number of images, or the fingerprint where one is known, is not the official one.
    """
    size, expected = SIZES[dataset.name][dataset.split], FINGERPRINTS.get(dataset.name, {}).get(dataset.split)
    advice = (
        "get the official files again, or, if it is data of your own, give its path as the dataset "
        f"instead of the name {dataset.name}."
    )
    if len(dataset.images) != size:
        raise ValueError(
            f"{source}: {dataset.name} has {size} {dataset.split} images, this holds {len(dataset.images)}; {advice}"
        )
    if expected is not None and dataset.fingerprint != expected:
        raise ValueError(
            f"{source}: the images or labels are not those of {dataset.name} ({dataset.split}), or in another order: "
            f"expected fingerprint {expected[:16]}..., got {dataset.fingerprint[:16]}...; {advice}"
        )
