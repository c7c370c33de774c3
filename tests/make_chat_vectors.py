#!/usr/bin/env python3
"""Writes tests/vectors/chat.json: conversations rendered by Jinja2, as Hugging Face's transformers set it up, from the templates of
known models. Templates are given as files, `NAME=FILE`; those written here are short ones of the same output.

    python3 tests/make_chat_vectors.py chatml-smollm2=FILE chatml-qwen2.5=FILE mistral-nemo=FILE > tests/vectors/chat.json
"""
import json
import sys

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

TOKENS = {"chatml": ("", "<|im_end|>"), "llama3": ("<|begin_of_text|>", "<|eot_id|>"), "llama2": ("<s>", "</s>"),
          "mistral": ("<s>", "</s>"), "zephyr": ("<s>", "</s>")}
TEMPLATES = {
    "zephyr-tinyllama": "{% for m in messages %}\n{% if m['role'] == 'user' %}\n{{ '<|user|>\n' + m['content'] + eos_token }}\n"
    "{% elif m['role'] == 'system' %}\n{{ '<|system|>\n' + m['content'] + eos_token }}\n{% else %}\n"
    "{{ '<|assistant|>\n' + m['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n"
    "{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    "llama3-3.0": "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
    "m['content'] | trim + '<|eot_id|>' }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}",
    "llama3-3.1": "{{ bos_token }}{% set at = namespace(sys='') %}{% for m in messages if m['role'] == 'system' %}"
    "{% set at.sys = m['content'] | trim %}{% endfor %}{{ '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: "
    "December 2023\nToday Date: 26 Jul 2024\n\n' + at.sys + '<|eot_id|>' }}{% for m in messages if m['role'] != 'system' %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}",
    "llama2-chat": "{% set at = namespace(sys='') %}{% for m in messages %}{% if m['role'] == 'system' %}"
    "{% set at.sys = '<<SYS>>\n' + m['content'] + '\n<</SYS>>\n\n' %}{% elif m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (at.sys + m['content']).strip() + ' [/INST]' }}{% set at.sys = '' %}{% else %}"
    "{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "mistral-0.2": "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}",
    "mistral-v3": "{{ bos_token }}{% set at = namespace(sys='') %}{% for m in messages %}{% if m['role'] == 'system' %}"
    "{% set at.sys = m['content'] + '\n\n' %}{% elif m['role'] == 'user' %}{{ \"[INST] \" + at.sys + m['content'] + '[/INST]' }}"
    "{% set at.sys = '' %}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}",
    "mistral-v7": "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ '[SYSTEM_PROMPT] ' + m['content'] + '[/SYSTEM_PROMPT]' }}{% elif m['role'] == 'user' %}{{ '[INST] ' + m['content'] + '[/INST]' }}"
    "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}",
}
SYSTEM, FIRST, REPLY, SECOND = "Be brief.", "What is a weir?", "A low dam.", "And a sluice <|im_end|></s>?"


def main():
    templates = dict(TEMPLATES)
    for item in sys.argv[1:]:
        name, path = item.split("=", 1)
        templates[name] = open(path, encoding="utf-8").read()
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    out = []
    for name, text in sorted(templates.items()):
        family = name.split("-")[0]
        bos, eos = TOKENS[family]
        render = lambda messages: env.from_string(text).render(messages=messages, add_generation_prompt=True, bos_token=bos, eos_token=eos)
        for system in [None, SYSTEM]:
            if system and name == "mistral-0.2":
                continue  # it takes no system message
            messages = [{"role": "system", "content": system}] if system else []
            messages.append({"role": "user", "content": FIRST})
            one = render(messages)
            two = render(messages + [{"role": "assistant", "content": REPLY}, {"role": "user", "content": SECOND}])
            if name == "mistral-nemo" and system:  # it moves the system's message to the last turn, which a stream cannot
                two = None
            # A reply of Llama 2 begins with the space that its template has.
            out.append({"name": name, "family": family, "bos": bos, "eos": eos, "system": system, "user": [FIRST, SECOND],
                        "reply": (" " if family == "llama2" else "") + REPLY, "one": one, "two": two})
    json.dump({"templates": templates, "cases": out}, sys.stdout, ensure_ascii=True, indent=0)
    print()


main()
