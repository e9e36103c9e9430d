"""`python -m icsnn_deploy`, and `torchrun -m icsnn_deploy`: the icsnn command."""

from icsnn_deploy.cli import main

if __name__ == "__main__":
    main()
