"""A package, so that `tests.gpu` is found where other packages have brought along a `tests` of their own."""
