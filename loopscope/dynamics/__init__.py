"""One iteration as a map from state to state: its Jacobian, and the limit that iterating it leads
to.

iteration_map  the model's iteration as a map of flat states
flat_trajectory a run's states as vectors, continued beyond the run
limit_point    a run's states continued beyond the run, and the fixed point that they end at
other_starts   starts other than the model's own
outcome        what becomes of each row: converged, approaching, moving, growing
outcome_result the base of results that say so
point_spectrum the leading eigenvalues at the point where a row ends
newton_point   fixed points to the last digit, by Newton's method
"""
