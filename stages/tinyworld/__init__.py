"""The embedded default world: eight kinds of small task, people with systematic bad habits, a checker, and a model
pretrained from scratch.

It exists so that the whole algorithm can be seen to self-reward on a CPU in minutes, without a download. The parts:
`tasks` (the grammar of the prompts, and their split), `oracle` (the checker), `reviews` (its findings as judgement
text), `demonstrators` (people: the seed data), `corpus`, `tokenizer` and `pretrain` (M0), and the world's own prompt
and chat templates. Nothing of the method knows this folder; the loop from M1 to M3 never imports the oracle: only seed
making and evaluation do.

Said openly: M0's corpus is synthetic, and beside questions with faulty answers it holds noisy remarks on such answers,
made by the checker with some of its findings flipped at random. M0 has therefore read a good deal of judging before the
method starts; what the loop shows is that a model's own judgements, and nothing else, can turn it against the bad
habits of its demonstrators. It shows no new ability.
"""
