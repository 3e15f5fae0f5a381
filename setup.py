"""Installs the packages `minigan` and `kernels`, the CUDA sources beside the Python that launches them,
and the parts of a run's report beside the Python that fills it.

Everything declarative stands in pyproject.toml; what is left here is what has to look at the tree: every folder under
`kernels/` is an operation, and a new one needs to be told nowhere.
"""

from setuptools import find_packages, setup

setup(
    packages=find_packages(include=["minigan", "minigan.*", "kernels", "kernels.*"]),
    package_data={"": ["*.cu", "*.cuh", "*.h", "*.html", "*.css", "*.js"]},
)
