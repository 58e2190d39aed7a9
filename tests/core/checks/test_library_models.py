"""No alarm on tiny, randomly initialized models of the transformers library, of all three kinds."""

from __future__ import annotations

import pytest
import torch

from transformer_foundry.core.checks import check_model

D = {"vocab_size": 120, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
S = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 64,
}  # fmt: skip
B = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64, "decoder_start_token_id": 2,
}  # fmt: skip
LATENT = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "kv_lora_rank": 16, "q_lora_rank": 16,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "moe_intermediate_size": 32,
    "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
}  # fmt: skip

# Not listed: the finding describes what the library's code does (ProphetNet was also seen by calling it directly).
# ProphetNet: exchanging decoder token 4 moves earlier positions (relative biases are viewed along swapped axes).
# YOSO: the mask, made for -10000, is divided by 10000 and multiplied in: padded keys weigh more, not nothing.
# MRA: without its CUDA kernel the attention returns zeros. CPM-Ant: sees both sides by design, scored as a decoder.
# Causal heads of XLM, MBart and Marian: their loss compares position t with label t. Luke: the stated tie is missing.
# XLNet classifier: reads the last position, padding or not. T5Gemma classifier: reads another one when padded.
# Nystromformer, Canine, Funnel, Perceiver, Reformer encoder: run at some lengths only, or pool across the padding.
# ELECTRA discriminator: one number for each token, no logits over classes. PhiMoE classifier: top-1 gates are 1.


def c(name, config, head, **settings):
    return pytest.param(config, head, {**D, **settings}, id=name)


# fmt: off
MODELS= [
 c("gpt2","GPT2Config","GPT2LMHeadModel",n_embd=32,n_layer=2,n_head=4,n_positions=64),
 c("llama","LlamaConfig","LlamaForCausalLM",**S,num_key_value_heads=2),
 c("mistral","MistralConfig","MistralForCausalLM",**S,num_key_value_heads=2,sliding_window=8),
 c("mixtral","MixtralConfig","MixtralForCausalLM",**S,num_key_value_heads=2,num_local_experts=4),
 c("qwen2","Qwen2Config","Qwen2ForCausalLM",**S,num_key_value_heads=2),
 c("qwen3","Qwen3Config","Qwen3ForCausalLM",**S,num_key_value_heads=2,head_dim=8),
 c("qwen2_moe","Qwen2MoeConfig","Qwen2MoeForCausalLM",**S,num_key_value_heads=2,num_experts=4,moe_intermediate_size=32,shared_expert_intermediate_size=32),
 c("gpt_neox","GPTNeoXConfig","GPTNeoXForCausalLM",**S),
 c("gptj","GPTJConfig","GPTJForCausalLM",n_embd=32,n_layer=2,n_head=4,n_positions=64,rotary_dim=4),
 c("gpt_neo","GPTNeoConfig","GPTNeoForCausalLM",hidden_size=32,num_layers=2,num_heads=4,max_position_embeddings=64,attention_types=[[["global","local"],1]],window_size=8),
 c("opt","OPTConfig","OPTForCausalLM",hidden_size=32,num_hidden_layers=2,num_attention_heads=4,ffn_dim=64,max_position_embeddings=64,word_embed_proj_dim=32),
 c("bloom","BloomConfig","BloomForCausalLM",hidden_size=32,n_layer=2,n_head=4),
 c("falcon","FalconConfig","FalconForCausalLM",hidden_size=32,num_hidden_layers=2,num_attention_heads=4),
 c("phi","PhiConfig","PhiForCausalLM",**S),
 c("phi3","Phi3Config","Phi3ForCausalLM",**S,num_key_value_heads=2),
 c("gemma","GemmaConfig","GemmaForCausalLM",**S,num_key_value_heads=2,head_dim=8),
 c("gemma2","Gemma2Config","Gemma2ForCausalLM",**S,num_key_value_heads=2,head_dim=8,sliding_window=8),
 c("gemma3","Gemma3TextConfig","Gemma3ForCausalLM",**S,num_key_value_heads=2,head_dim=8,sliding_window=8),
 c("olmo","OlmoConfig","OlmoForCausalLM",**S),
 c("olmo2","Olmo2Config","Olmo2ForCausalLM",**S),
 c("stablelm","StableLmConfig","StableLmForCausalLM",**S,num_key_value_heads=2),
 c("starcoder2","Starcoder2Config","Starcoder2ForCausalLM",**S,num_key_value_heads=2),
 c("granite","GraniteConfig","GraniteForCausalLM",**S,num_key_value_heads=2),
 c("cohere","CohereConfig","CohereForCausalLM",**S,num_key_value_heads=2),
 c("mpt","MptConfig","MptForCausalLM",d_model=32,n_layers=2,n_heads=4,max_seq_len=64),
 c("codegen","CodeGenConfig","CodeGenForCausalLM",n_embd=32,n_layer=2,n_head=4,n_positions=64,rotary_dim=4),
 c("openai-gpt","OpenAIGPTConfig","OpenAIGPTLMHeadModel",n_embd=32,n_layer=2,n_head=4,n_positions=64),
 c("xglm","XGLMConfig","XGLMForCausalLM",d_model=32,num_layers=2,attention_heads=4,ffn_dim=64,max_position_embeddings=64),
 c("biogpt","BioGptConfig","BioGptForCausalLM",**S),
 c("persimmon","PersimmonConfig","PersimmonForCausalLM",**S),
 c("nemotron","NemotronConfig","NemotronForCausalLM",**S,num_key_value_heads=2),
 c("gpt_bigcode","GPTBigCodeConfig","GPTBigCodeForCausalLM",n_embd=32,n_layer=2,n_head=4,n_positions=64),
 c("bert","BertConfig","BertForMaskedLM",**S),
 c("bert_cls","BertConfig","BertForSequenceClassification",**S,num_labels=3),
 c("bert_tok","BertConfig","BertForTokenClassification",**S,num_labels=5),
 c("roberta","RobertaConfig","RobertaForMaskedLM",**{**D,**S,'pad_token_id':1,'bos_token_id':0,'max_position_embeddings':66}),
 c("albert","AlbertConfig","AlbertForMaskedLM",**S,embedding_size=16),
 c("distilbert","DistilBertConfig","DistilBertForMaskedLM",dim=32,n_layers=2,n_heads=4,hidden_dim=64,max_position_embeddings=64),
 c("electra","ElectraConfig","ElectraForMaskedLM",**S,embedding_size=16),
 c("deberta","DebertaConfig","DebertaForMaskedLM",**S,relative_attention=True,pos_att_type=["p2c","c2p"]),
 c("deberta_v2","DebertaV2Config","DebertaV2ForMaskedLM",**S,relative_attention=True,pos_att_type=["p2c","c2p"]),
 c("mpnet","MPNetConfig","MPNetForMaskedLM",**{**D,**S,'pad_token_id':1,'bos_token_id':0,'max_position_embeddings':66}),
 c("xlm_roberta","XLMRobertaConfig","XLMRobertaForMaskedLM",**{**D,**S,'pad_token_id':1,'bos_token_id':0,'max_position_embeddings':66}),
 c("camembert","CamembertConfig","CamembertForSequenceClassification",**{**D,**S,'pad_token_id':1,'bos_token_id':0,'max_position_embeddings':66}),
 c("longformer","LongformerConfig","LongformerForMaskedLM",**{**D,**S,'pad_token_id':1,'bos_token_id':0,'max_position_embeddings':66},attention_window=8),
 c("fnet","FNetConfig","FNetForMaskedLM",**{k:v for k,v in S.items() if k!='num_attention_heads'}),
 c("modernbert","ModernBertConfig","ModernBertForMaskedLM",**S,local_attention=8,cls_token_id=1,sep_token_id=2),
 c("esm","EsmConfig","EsmForMaskedLM",**S,mask_token_id=3,position_embedding_type="rotary"),
 c("roformer","RoFormerConfig","RoFormerForMaskedLM",**S,embedding_size=32),
 c("squeezebert","SqueezeBertConfig","SqueezeBertForMaskedLM",**S,embedding_size=32),
 c("bigbird","BigBirdConfig","BigBirdForMaskedLM",**S,attention_type="original_full"),
 c("t5","T5Config","T5ForConditionalGeneration",d_model=32,d_kv=8,d_ff=64,num_layers=2,num_heads=4,decoder_start_token_id=0),
 c("t5_gated","T5Config","T5ForConditionalGeneration",d_model=32,d_kv=8,d_ff=64,num_layers=2,num_heads=4,decoder_start_token_id=0,feed_forward_proj="gated-gelu",tie_word_embeddings=False),
 c("mt5","MT5Config","MT5ForConditionalGeneration",d_model=32,d_kv=8,d_ff=64,num_layers=2,num_heads=4,decoder_start_token_id=0),
 c("umt5","UMT5Config","UMT5ForConditionalGeneration",d_model=32,d_kv=8,d_ff=64,num_layers=2,num_heads=4,decoder_start_token_id=0),
 c("longt5","LongT5Config","LongT5ForConditionalGeneration",d_model=32,d_kv=8,d_ff=64,num_layers=2,num_heads=4,decoder_start_token_id=0,local_radius=8),
 c("switch","SwitchTransformersConfig","SwitchTransformersForConditionalGeneration",d_model=32,d_kv=8,d_ff=64,num_layers=2,num_heads=4,decoder_start_token_id=0,num_experts=4),
 c("bart","BartConfig","BartForConditionalGeneration",d_model=32,encoder_layers=2,decoder_layers=2,encoder_attention_heads=4,decoder_attention_heads=4,encoder_ffn_dim=64,decoder_ffn_dim=64,max_position_embeddings=64,decoder_start_token_id=2),
 c("mbart","MBartConfig","MBartForConditionalGeneration",d_model=32,encoder_layers=2,decoder_layers=2,encoder_attention_heads=4,decoder_attention_heads=4,encoder_ffn_dim=64,decoder_ffn_dim=64,max_position_embeddings=64,decoder_start_token_id=2),
 c("pegasus","PegasusConfig","PegasusForConditionalGeneration",d_model=32,encoder_layers=2,decoder_layers=2,encoder_attention_heads=4,decoder_attention_heads=4,encoder_ffn_dim=64,decoder_ffn_dim=64,max_position_embeddings=64,decoder_start_token_id=0),
 c("marian","MarianConfig","MarianMTModel",d_model=32,encoder_layers=2,decoder_layers=2,encoder_attention_heads=4,decoder_attention_heads=4,encoder_ffn_dim=64,decoder_ffn_dim=64,max_position_embeddings=64,decoder_start_token_id=0),
 c("blenderbot","BlenderbotConfig","BlenderbotForConditionalGeneration",d_model=32,encoder_layers=2,decoder_layers=2,encoder_attention_heads=4,decoder_attention_heads=4,encoder_ffn_dim=64,decoder_ffn_dim=64,max_position_embeddings=64,decoder_start_token_id=1),
 c("blenderbot_small","BlenderbotSmallConfig","BlenderbotSmallForConditionalGeneration",d_model=32,encoder_layers=2,decoder_layers=2,encoder_attention_heads=4,decoder_attention_heads=4,encoder_ffn_dim=64,decoder_ffn_dim=64,max_position_embeddings=64,decoder_start_token_id=1),
 c("m2m100","M2M100Config","M2M100ForConditionalGeneration",d_model=32,encoder_layers=2,decoder_layers=2,encoder_attention_heads=4,decoder_attention_heads=4,encoder_ffn_dim=64,decoder_ffn_dim=64,max_position_embeddings=64,decoder_start_token_id=2),
 c("led","LEDConfig","LEDForConditionalGeneration",d_model=32,encoder_layers=2,decoder_layers=2,encoder_attention_heads=4,decoder_attention_heads=4,encoder_ffn_dim=64,decoder_ffn_dim=64,max_encoder_position_embeddings=64,max_decoder_position_embeddings=64,attention_window=8,decoder_start_token_id=2),
 c("bart_cls","BartConfig","BartForSequenceClassification",**B,num_labels=3),
 c("t5_cls","T5Config","T5ForSequenceClassification",d_model=32,d_kv=8,d_ff=64,num_layers=2,num_heads=4,decoder_start_token_id=0,num_labels=3),
 c("t5_tok","T5Config","T5ForTokenClassification",d_model=32,d_kv=8,d_ff=64,num_layers=2,num_heads=4,decoder_start_token_id=0,num_labels=5),
 c("fsmt","FSMTConfig","FSMTForConditionalGeneration",langs=["en","de"],src_vocab_size=120,tgt_vocab_size=110,**B),
 c("roc_bert","RoCBertConfig","RoCBertForMaskedLM",**S,pronunciation_embed_dim=16,pronunciation_vocab_size=50,shape_embed_dim=16,shape_vocab_size=50),
 c("convbert","ConvBertConfig","ConvBertForMaskedLM",**S,embedding_size=32),
 c("mobilebert","MobileBertConfig","MobileBertForSequenceClassification",**S,embedding_size=16,true_hidden_size=32,intra_bottleneck_size=32,num_feedforward_networks=2,num_labels=3),
 c("luke_tok","LukeConfig","LukeForTokenClassification",**S,entity_vocab_size=10,entity_emb_size=16,num_labels=5),
 c("eurobert","EuroBertConfig","EuroBertForMaskedLM",**S),
 c("xmod","XmodConfig","XmodForMaskedLM",**{**D,**S,'pad_token_id':1,'bos_token_id':0,'max_position_embeddings':66},languages=["en_XX"],default_language="en_XX"),
 c("xlnet","XLNetConfig","XLNetLMHeadModel",d_model=32,n_layer=2,n_head=4,d_inner=64),
 c("xlm","XLMConfig","XLMWithLMHeadModel",emb_dim=32,n_layers=2,n_heads=4,max_position_embeddings=64,n_langs=1),
 c("reformer","ReformerConfig","ReformerModelWithLMHead",attention_head_size=8,attn_layers=["local","local"],axial_pos_embds=False,feed_forward_size=64,hidden_size=32,local_attn_chunk_length=4,max_position_embeddings=64,num_attention_heads=4,is_decoder=True),
 c("recurrent_gemma","RecurrentGemmaConfig","RecurrentGemmaForCausalLM",**{**S,'num_hidden_layers':3,'intermediate_size':256},num_key_value_heads=1,lru_width=32,attention_window_size=8,head_dim=8),
 c("deepseek_v2_cls","DeepseekV2Config","DeepseekV2ForSequenceClassification",**S,**LATENT,num_key_value_heads=4,num_labels=3),
 c("glm_cls","GlmConfig","GlmForSequenceClassification",**S,num_key_value_heads=2,head_dim=8,num_labels=3),
 c("llama4","Llama4TextConfig","Llama4ForCausalLM",**S,num_key_value_heads=2,head_dim=8,num_local_experts=2,intermediate_size_mlp=64,attention_chunk_size=16),
 c("jamba_cls","JambaConfig","JambaForSequenceClassification",**S,num_key_value_heads=2,use_mamba_kernels=False,attn_layer_period=2,attn_layer_offset=1,expert_layer_period=2,expert_layer_offset=1,num_experts=2,mamba_dt_rank=4,mamba_d_state=4,num_labels=3),
 c("mamba","MambaConfig","MambaForCausalLM",hidden_size=32,num_hidden_layers=2,state_size=4,time_step_rank=4),
 c("mamba2","Mamba2Config","Mamba2ForCausalLM",hidden_size=32,num_hidden_layers=2,state_size=8,num_heads=8,head_dim=8,n_groups=1,chunk_size=16,expand=2),
 c("rwkv","RwkvConfig","RwkvForCausalLM",hidden_size=32,num_hidden_layers=2,context_length=64,attention_hidden_size=32,intermediate_size=64),
]
# fmt: on


@pytest.mark.slow
@pytest.mark.parametrize(("config", "head", "settings"), MODELS)
def test_a_model_of_the_library_raises_no_alarm(config, head, settings):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    configuration = getattr(transformers, config)(**settings)
    report = check_model(getattr(transformers, head)(configuration), configuration.to_dict())
    assert [(finding.check, finding.message, finding.where) for finding in report.problems] == []
