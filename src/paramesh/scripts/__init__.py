"""Scripts written for MindSpore: running them as they are, and reading what they need.

Glossary
    script      a python program that imports `mindspore`
    use         one place of a script that names something of MindSpore's, by its dotted path
    closure     a script with the local modules that it imports, and those that these import
    missing     what MindSpore has, or a script believes so, and paramesh does not

Nothing here is imported by `import paramesh`: `paramesh run` and `compat.as_mindspore()` load it.
"""
