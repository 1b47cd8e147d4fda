"""audit: does a learning signal point the right way, by how much is it off, what does it cost, and what is wrong?

    from fingerpost.audit import audit
    print(audit(signal, loss, point))

`audit` takes any signal at any point; `audit_gradients` the parameter gradients of a module; `assert_aligned` stands in a
test suite where torch.autograd.gradcheck stands otherwise.
"""

from fingerpost.audit._audit import audit
from fingerpost.audit._cost import Cost
from fingerpost.audit._gradients import assert_aligned, audit_gradients
from fingerpost.audit._layered import LayeredLoss
from fingerpost.audit._report import FIGURES, AuditReport, Layer, Layers
from fingerpost.audit._statistics import Figure
from fingerpost.audit._templates import TEMPLATES, Evidence, Template
from fingerpost.audit._verdict import PASSING, Fault, Verdict

__all__ = [
    "FIGURES",
    "PASSING",
    "TEMPLATES",
    "AuditReport",
    "Cost",
    "Evidence",
    "Fault",
    "Figure",
    "Layer",
    "LayeredLoss",
    "Layers",
    "Template",
    "Verdict",
    "assert_aligned",
    "audit",
    "audit_gradients",
]
