"""Lamina with one small thing wrong, again and again: does a test notice?"""
