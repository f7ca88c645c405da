"""The model: encoders, trunks and heads, and the parts that losses are made of."""
