"""The command `python -m relstab_jax.runs`."""

from relstab_jax.runs.listing import main

if __name__ == "__main__":
    main()
