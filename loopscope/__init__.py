"""loopscope: what a looped transformer does between its iterations."""
