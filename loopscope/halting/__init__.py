"""halting"""
