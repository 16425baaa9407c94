"""A black-box harness: real peers, faults, evidence from outside, and judges of the evidence."""
