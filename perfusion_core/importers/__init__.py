"""Concepts of two other implementations of Perfusion become concept files of this pack; an offline command.

    python -m perfusion_core.importers their.ckpt --checkpoint sd15.safetensors \\
        --vocabulary vocab.json --out hugsy.safetensors

The other programs write pickles, which can run code; no node ever reads one, and this command reads only tensors and
plain containers out of them.

    pickle_file   reading a pickle without running anything in it
    base_model    what the peers' files lack: the key projections and the token table of the checkpoint
    peer          what all the peers' files say
    chendaryen    files of ChenDarYen/Key-Locked-Rank-One-Editing-for-Text-to-Image-Personalization (.ckpt)
    lucidrains    files of lucidrains/perfusion-pytorch (.pt)
    conversion    from a peer's concept to ours
"""
