"""CWE-693: protections that are off, weak, or left out."""
from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lamina_review.rules.reading import SECRET, called, dotted, keyword, names, text_of
from lamina_review.rules.rule import Site, rule
from lamina_review.source import Module


@rule("secret-in-the-clear", 319)
def secret_in_the_clear(module: Module) -> Iterator[Site]:
    """A secret is sent to an http:// address: whoever is in between reads it."""
    for call in module.nodes(ast.Call):
        address = next((t for a in call.args if (t := text_of(a)) and t.startswith("http://")), None)
        if address is None:
            continue
        near = re.match(r"http://(localhost|127\.|\[::1\])", address) is not None
        said = {n.lower() for k in call.keywords for n in names(k.value)} | {
            str(n.value).lower().replace("-", "_") for k in call.keywords for n in ast.walk(k.value) if isinstance(n, ast.Constant)
        }
        yield Site(call, "a secret goes over http://" if not near and any(SECRET.search(s) for s in said) else "")


@rule("secret-by-chance", 330)
def secret_by_chance(module: Module) -> Iterator[Site]:
    """A secret out of a generator that can be predicted from what it gave before."""
    for call in module.nodes(ast.Call):
        if dotted(call.func).startswith("random.") and called(call) not in {"SystemRandom", "seed", "Random"}:
            function = module.function_at(call)
            around = [function.name] if function else []
            around += [n for a in module.above(call) if isinstance(a, ast.Assign) for t in a.targets for n in names(t)]
            yield Site(call, "a secret that can be guessed" if any(SECRET.search(n.lower()) for n in around) else "")


@rule("signature-not-looked-at", 347)
def signature_not_looked_at(module: Module) -> Iterator[Site]:
    """A signed token is read with its verification switched off."""
    for call in module.nodes(ast.Call):
        if dotted(call.func).endswith("jwt.decode"):
            options, verify = keyword(call, "options"), keyword(call, "verify")
            off = options is not None and "'verify_signature': False" in ast.unparse(options)
            off = off or (isinstance(verify, ast.Constant) and verify.value is False)
            yield Site(call, "the signature is not verified" if off else "")


@rule("secret-compared-letter-by-letter", 208)
def secret_compared(module: Module) -> Iterator[Site]:
    """A signature or digest compared by ``==``: the time it takes tells how much of it is right."""
    for compare in module.nodes(ast.Compare):
        if len(compare.ops) == 1 and isinstance(compare.ops[0], ast.Eq | ast.NotEq):
            sides = [compare.left, compare.comparators[0]]
            digest = any(isinstance(s, ast.Call) and called(s) in {"hexdigest", "digest"} and "hmac" in dotted(s) for s in sides)
            signed = any(re.search(r"(?i)(^|_)(hmac|signature|mac)$", dotted(s).rpartition(".")[2]) for s in sides)
            constant = any(isinstance(s, ast.Constant) for s in sides)
            if digest or signed:
                yield Site(compare, "" if constant else "compared letter by letter; hmac.compare_digest takes the same time always")
