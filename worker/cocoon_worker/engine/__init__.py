"""Inference engines behind one protocol: supervised vLLM, any OpenAI endpoint, a labelled echo."""
