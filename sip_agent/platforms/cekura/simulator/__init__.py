"""A stand-in for Cekura: it speaks the documented part of Cekura's API, and really places the SIP calls.

It is not Cekura, and nothing that it does proves what Cekura does. Documented, and taken over: the paths, the fields
and the texts of errors (docs.cekura.ai and its openapi.json, August 2026), the three correlation headers, the headers
of test profiles, the statuses, the words for why a call ended, five calls a second, the webhooks, the five minutes
for transcripts. Its own choice is what Cekura does not publish: the testing agent (a script or a sound file instead of
a language model), how it judges a call (`evaluation`), which SIP status means what, and whatever else a docstring
here calls its own choice.
"""
