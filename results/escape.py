"""Takes any one-line text; gives it spelled so that LaTeX or Markdown shows exactly that text."""

import re

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",  # in a group: beside a single quote it would be read as another one
    "`": r"\textasciigrave{}",
    "[": "{[}",  # a bracket or star after \\ is that command's argument
    "]": "{]}",
    "*": "{*}",
    "\n": " ",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≠": r"$\neq$",
    "≈": r"$\approx$",
    "→": r"$\rightarrow$",
    "−": "$-$",
    "°": r"$^\circ$",
    "²": "$^2$",
    "³": "$^3$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
}
_GREEK = {
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "δ": "delta",
    "ε": "epsilon",
    "ζ": "zeta",
    "η": "eta",
    "θ": "theta",
    "κ": "kappa",
    "λ": "lambda",
    "μ": "mu",
    "ν": "nu",
    "ξ": "xi",
    "π": "pi",
    "ρ": "rho",
    "σ": "sigma",
    "τ": "tau",
    "φ": "phi",
    "χ": "chi",
    "ψ": "psi",
    "ω": "omega",
    "Γ": "Gamma",
    "Δ": "Delta",
    "Θ": "Theta",
    "Λ": "Lambda",
    "Π": "Pi",
    "Σ": "Sigma",
    "Φ": "Phi",
    "Ψ": "Psi",
    "Ω": "Omega",
}
_LATEX |= {letter: rf"$\{name}$" for letter, name in _GREEK.items()}

# Between two hyphens or apostrophes, which TeX would join into a dash or a quotation mark.
_LIGATURES = re.compile(r"(?<=-)(?=-)|(?<=')(?=')")

# An underscore inside a word is not markup, and "M\_i" would be hard to read as text.
_MARKDOWN = re.compile(r"[\\|*`<>\[\]~$&]|(?<![^\W_])_|_(?![^\W_])")


def latex(text: str) -> str:
    """Text mode LaTeX in ASCII: the same output whatever ``inputenc`` the document has.

    Raises:
        ValueError: a character without a known ASCII spelling.
    """
    return "{}".join(
        "".join(_LATEX.get(character) or _ascii(character) for character in part)
        for part in _LIGATURES.split(text)
    )


def _ascii(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    raise ValueError(
        f"LaTeX has no spelling here for {character!r} (U+{ord(character):04X}): "
        "rename what contains it, or render as md or csv"
    )


def markdown(text: str) -> str:
    """GitHub-flavored Markdown for a table cell or a list item."""
    return _MARKDOWN.sub(lambda match: "\\" + match[0], text.replace("\n", " "))
