"""What the command line does: one file a verb. Nothing else in the package imports one."""
