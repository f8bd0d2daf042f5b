"""The CirCor DigiScope database of the George B. Moody PhysioNet Challenge 2022."""
