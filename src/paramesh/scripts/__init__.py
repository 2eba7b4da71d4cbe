"""Scripts written for MindSpore: running them unchanged, and analysing what they use.

Glossary
    script      a python program that imports `mindspore`
    use         one place of a script that refers to a name of MindSpore, by its dotted path
    closure     a script with the local modules that it imports, directly or not
    missing     a name that MindSpore has, or a script uses as if, and paramesh does not

`import paramesh` does not import this package; `paramesh run` and `compat.as_mindspore()` do.
"""
