-- Which pairs are easiest to doubt? Smallest margin against the spread of the judgements behind it, 20 of them. $model: all models by default.
SELECT
    pairs.model,
    chosen_score - rejected_score AS margin,
    chosen.spread AS chosen_spread,
    rejected.spread AS rejected_spread,
    prompt, pairs.chosen, pairs.rejected, pairs.prompt_id,
FROM pairs
JOIN scores AS chosen ON chosen.model = pairs.model AND chosen.candidate_id = chosen_id
JOIN scores AS rejected ON rejected.model = pairs.model AND rejected.candidate_id = rejected_id
WHERE $model IS NULL OR pairs.model = $model
ORDER BY margin - greatest(chosen.spread, rejected.spread), margin, pairs.model, pairs.prompt_id
LIMIT 20
