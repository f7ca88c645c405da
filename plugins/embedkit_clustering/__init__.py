"""Clusters of embeddings, and samplers that mind them."""
