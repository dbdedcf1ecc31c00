#!/usr/bin/env bash
# Weights that safetensors has loaded go on lying in their file, and change when it is written over.
#
# Guess: load_file returns tensors; once it has returned, the file may be replaced as one likes, and a
#   model in use answers as before. torch.load, safetensors.numpy and the bytes of safetensors.torch.load
#   behave so.
# Behaviour: on the CPU load_file maps the file. After `cp new.safetensors old.safetensors`, or
#   `rsync --inplace`, which write into the same file, a model that was given these tensors
#   (load_state_dict with assign=True, as from_pretrained of transformers does) computes with the new
#   numbers from one call to the next, whatever its config, tokenizer and caches are. A move (`mv`) or a
#   download that ends in a move changes nothing.
# Who meets it: services and notebooks on a folder of models that something else keeps up to date, and
#   whoever keys a cache of embeddings by a digest that was taken when the model was loaded.
set -eu
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 safetensors==0.8.0 numpy==2.4.6 packaging==26.2
venv/bin/python - <<'PYTHON'
import shutil
import sys

import numpy
import safetensors
import torch
from safetensors import numpy as of_numpy
from safetensors import torch as of_torch

print("safetensors", safetensors.__version__, "torch", torch.__version__, "numpy", numpy.__version__)


def write(name, value):
    tensors = {"weight": torch.full((64, 256), value), "bias": torch.zeros(64)}
    of_torch.save_file(tensors, f"{name}.safetensors")
    torch.save(tensors, f"{name}.pt")


write("model", 1.0)
write("newer", 2.0)
layer = torch.nn.Linear(256, 64)
layer.load_state_dict(of_torch.load_file("model.safetensors"), assign=True)
others = {
    "torch.load": torch.load("model.pt", weights_only=True)["weight"],
    "safetensors.numpy.load_file": of_numpy.load_file("model.safetensors")["weight"],
    "safetensors.torch.load": of_torch.load(open("model.safetensors", "rb").read())["weight"],
}
x = torch.ones(1, 256)
with torch.no_grad():
    before = float(layer(x)[0, 0])
    shutil.copyfile("newer.safetensors", "model.safetensors")  # what cp does: the same file, written over
    shutil.copyfile("newer.pt", "model.pt")
    after = float(layer(x)[0, 0])
print("a layer in use, before and after the copy:", before, after)
kept = {name: float(value.max()) for name, value in others.items()}
print("loaded by other ways, after it:", kept)
as_described = (before, after) == (256.0, 512.0) and set(kept.values()) == {1.0}
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
