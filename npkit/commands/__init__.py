"""Commands: a module for each verb of the command line, with its options (`add`) and what it does (`run`)."""
