"""Certificates: what no attack can break, proven; one file a method."""

from bpfc.certification.base import Certifier, ContradictionError
from bpfc.certification.both_sides import join
from bpfc.certification.crown_ibp import CrownIBP
from bpfc.certification.engine import (
    CERTIFIERS,
    CertificateRow,
    Certification,
    certify,
    certify_block,
    fingerprint,
    parse_methods,
)
from bpfc.certification.interval import IntervalBounds
from bpfc.certification.radii import certified_radii, certified_shares
from bpfc.certification.recorded import read_certificates, record

__all__ = [
    "CERTIFIERS",
    "CertificateRow",
    "Certification",
    "Certifier",
    "ContradictionError",
    "CrownIBP",
    "IntervalBounds",
    "certified_radii",
    "certified_shares",
    "certify",
    "certify_block",
    "fingerprint",
    "join",
    "parse_methods",
    "read_certificates",
    "record",
]
