"""Cekura: start runs, join them to the calls that arrive, judge them, send evidence back.

Where its documents contradict each other, what is read is read leniently, and what is sent follows its API
description (https://docs.cekura.ai/openapi.json, read on 2026-08-18).
"""
