"""Looped models of transformers that have no adapter, with small random weights: ESMFold2, whose
trunk is Parcae's loop, and Zamba2, whose layers share one transformer block."""

from typing import Any

import pytest
import torch
from torch import Tensor


def esm_fold() -> Any:
    try:
        from transformers import EsmFold2Config, EsmFold2Model
    except ImportError:
        pytest.skip("this transformers is too old for ESMFold2")
    layers = {"num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 8, "intermediate_size": 8}
    atoms = {**layers, "hidden_size": 8, "output_dim": 8, "num_spatial_rope_pairs_per_axis": 1}
    atoms["num_uid_rope_pairs"] = 1
    denoiser = {
        **layers,
        "hidden_size": 8,
        "fourier_dim": 4,
        "pair_intermediate_size": 8,
        "atom_encoder": atoms,
    }
    bins = dict.fromkeys(("num_plddt_bins", "num_pde_bins", "num_pae_bins", "distogram_bins"), 4)
    config = EsmFold2Config(
        hidden_size=8,
        pairwise_hidden_size=8,
        single_inputs_size=8 + 2 * 33 + 1,
        pair_transition_intermediate_size=8,
        sliding_window=4,
        num_loops=3,
        folding_trunk_num_hidden_layers=1,
        parcae_num_coda_layers=1,
        atom_encoder=atoms,
        structure_head={"diffusion_module": denoiser, "num_distogram_bins": 4},
        confidence_head={"num_hidden_layers": 1, **bins},
        msa_encoder={"hidden_size": 8, "num_hidden_layers": 1, "enabled": False},
        lm_encoder={"num_hidden_layers": 1},
        esmc_config={**layers, "hidden_size": 8, "num_key_value_heads": 1},
    )
    model = EsmFold2Model(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model


def protein() -> dict[str, Any]:
    """The inputs of two proteins of four residues, with two atoms each."""
    from transformers.models.esmfold2.modeling_esmfold2 import EsmFold2AtomInputs

    generator = torch.Generator().manual_seed(2)

    def drawn(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    place, none = torch.arange(4).expand(2, 4), torch.zeros(2, 4, dtype=torch.long)
    of_atoms = torch.arange(4).repeat_interleave(2).expand(2, 8)
    atoms = EsmFold2AtomInputs(
        ref_pos=torch.randn(2, 8, 3, generator=generator),
        ref_charge=torch.zeros(2, 8),
        atom_attention_mask=torch.ones(2, 8, dtype=torch.bool),
        ref_element=drawn(20, 2, 8),
        ref_atom_name_chars=drawn(40, 2, 8, 4),
        ref_space_uid=of_atoms,
        atom_to_token=of_atoms,
    )
    names = ("asym_id", "sym_id", "entity_id", "mol_type")
    return dict.fromkeys(names, none) | {
        "token_index": place,
        "residue_index": place,
        "res_type": drawn(20, 2, 4),
        "token_bonds": torch.zeros(2, 4, 4, 1),
        "attention_mask": torch.ones(2, 4, dtype=torch.bool),
        "atom_inputs": atoms,
    }


def zamba() -> Any:
    from transformers import Zamba2Config, Zamba2ForCausalLM

    config = Zamba2Config(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=6,
        layers_block_type=["mamba", "hybrid"] * 3,
        num_mem_blocks=1,
        num_attention_heads=2,
        attention_head_dim=16,
        attention_hidden_size=32,
        intermediate_size=24,
        mamba_d_state=4,
        mamba_headdim=8,
        n_mamba_heads=4,
        mamba_ngroups=1,
        chunk_size=4,
        adapter_rank=4,
        use_mem_rope=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return Zamba2ForCausalLM(config)
