"""Packaging: every fact stands in settings.ini."""
import shlex
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(delimiters=["="])
ini.read(here / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]
minor = int(cfg["min_python"].split(".")[1])
readme = here / "README.md"

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else cfg["description"],
    long_description_content_type="text/markdown",
    keywords=cfg["keywords"],
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    project_urls={"Documentation": cfg["doc_host"] + cfg["doc_baseurl"], "Source": cfg["git_url"]},
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Natural Language :: English",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        *(f"Programming Language :: Python :: 3.{v}" for v in range(minor, 14)),
    ],
    packages=find_packages(include=[cfg["lib_name"], f"{cfg['lib_name']}.*"]),
    package_data={cfg["lib_name"]: ["*.pyi", "checkpoints/*.safetensors", "checkpoints/*.json"]},
    python_requires=f">={cfg['min_python']}",
    install_requires=shlex.split(cfg["requirements"]),
    extras_require={
        extra: shlex.split(cfg[f"{extra}_requirements"])
        for extra in ("dev", "c3d", "dask", "deploy")
    },
    entry_points={
        "console_scripts": shlex.split(cfg["console_scripts"]),
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_path']}._modidx:d"],
    },
    zip_safe=False,
)
