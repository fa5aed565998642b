"""What runs inside the sandbox and does what the file tools are asked: files of the standard library's Python 3.10 and
later, sent there as text by `helper.py`. They import each other and nothing else of ours.
"""
