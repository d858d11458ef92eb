"""What `dev.py` is made of.  Standard library only, and never imported by the pack.

    command_line      the two commands, and the one place where a failure becomes a sentence
    errors            the exception that carries such a sentence
    paths             where the commands keep what they make

A ComfyUI and a Python that runs it:

    host              finding a ComfyUI, and saying which and why
    install_host      installing one where there is none
    host_from_index   taking one out of the Python package index
    interpreters      which Python runs it
    probing           asking a Python what it can import
    packages          making .venv/ and what goes into it
    torch_trio        torch, torchvision and torchaudio that can be imported together, found by trying
    pip_runner        pip, shown as it goes
    lock              one pip at a time

What then runs:

    server            a private ComfyUI server with this pack
    processes         children that are gone when they should be
    run_demo          the tour
    run_tests         the checks, then each group of tests
    run_pytest        pytest without the repository's root on sys.path

Translations:

    locales           the English texts out of the nodes, and which translations are older than they
"""
