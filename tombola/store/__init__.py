"""The store: answers, states, masks and experiments, addressed by content, in one directory.

    format.json                 what this directory is
    answers/ab/DIGEST.json      the answer to a request; carries a checksum of itself
    objects/ab/DIGEST.safetensors   states (packed under their mask) and masks, named by the SHA-256 of the file
    checkpoints/DIGEST.safetensors  an unfinished request
    experiments/DIGEST.json     which requests an experiment is made of
    locks/DIGEST                held by the operating system while a request is computed

A store may be copied, and two stores may be merged by copying one over the other.
"""

from tombola.store.store import Damaged, Store

__all__ = ["Damaged", "Store"]
