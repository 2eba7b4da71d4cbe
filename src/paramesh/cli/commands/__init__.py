"""The commands of `paramesh` by group: their arguments, options and help texts.

Each module checks what options go together, and hands over to the module that does the work. It
imports that module when its command runs: all of these are imported for every command.
"""
