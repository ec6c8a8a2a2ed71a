"""The study behind the advice: which loss helps which model, and by how much."""
