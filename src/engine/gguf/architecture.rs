//! The architectures that GGUF names, and how they differ in names and norms.

/// How a `general.architecture` becomes one of the registry's models.
#[derive(Debug)]
pub(super) struct Architecture {
    pub gguf_name: &'static str,
    /// Of config.json.
    pub model_type: &'static str,
    /// Norms before and after each block have these names, besides the common ones.
    norms: &'static [(&'static str, &'static str)],
    /// Norms are stored with the one added that the model adds itself.
    pub norms_plus_one: bool,
    /// Queries and keys are ordered so that rotary pairs are neighbours.
    pub rope_traditional: bool,
}

impl Architecture {
    /// All of them: a new one of the common kinds is a line here, and perhaps keys in config.rs.
    const ALL: &[Architecture] = &[
        Architecture { rope_traditional: true, ..decoder("llama", "llama") },
        decoder("qwen2", "qwen2"),
        decoder("qwen3", "qwen3"),
        gemma("gemma3", "gemma3_text"),
    ];

    pub fn find(gguf_name: &str) -> Option<&'static Architecture> {
        Self::ALL.iter().find(|architecture| architecture.gguf_name == gguf_name)
    }

    pub fn names() -> String {
        Self::ALL.iter().map(|architecture| architecture.gguf_name).collect::<Vec<_>>().join(", ")
    }

    /// Whether it is one of Gemma's.
    pub fn is_gemma(&self) -> bool {
        self.norms_plus_one
    }

    /// Hugging Face's name of a tensor.
    pub fn name_of(&self, tensor: &str) -> Option<String> {
        let (stem, kind) = tensor.rsplit_once('.').filter(|(_, kind)| matches!(*kind, "weight" | "bias"))?;
        let find = |table: &[(&str, &'static str)], stem: &str| {
            table.iter().find(|(gguf, _)| *gguf == stem).map(|(_, name)| *name)
        };
        if let Some(name) = find(WHOLE, stem) {
            return Some(format!("{name}.{kind}"));
        }
        let (layer, stem) = stem.strip_prefix("blk.")?.split_once('.')?;
        let layer: u32 = layer.parse().ok()?;
        let name = find(self.norms, stem).or_else(|| find(LAYER, stem))?;
        Some(format!("model.layers.{layer}.{name}.{kind}"))
    }
}

const WHOLE: &[(&str, &str)] =
    &[("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

const LAYER: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Llama and what took its shape.
const fn decoder(gguf_name: &'static str, model_type: &'static str) -> Architecture {
    let norms = &[("ffn_norm", "post_attention_layernorm")];
    Architecture { gguf_name, model_type, norms, norms_plus_one: false, rope_traditional: false }
}

/// Gemma 2 and 3: norms behind the blocks too.
const fn gemma(gguf_name: &'static str, model_type: &'static str) -> Architecture {
    let norms = &[
        ("post_attention_norm", "post_attention_layernorm"),
        ("ffn_norm", "pre_feedforward_layernorm"),
        ("post_ffw_norm", "post_feedforward_layernorm"),
    ];
    Architecture { gguf_name, model_type, norms, norms_plus_one: true, rope_traditional: false }
}
