"""From compiled ABIs and Tact sources to Python: the pieces of `contracts/generate.py`.

model    ABI -> structs, their cell layout by Tact's rules, getters
sources  Tact sources -> exit codes, constants, documentation comments
tlb      TL-B lines compared with the compiled layout; schema.tlb
emit     text of the generated Python modules
"""
