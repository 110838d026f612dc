-- Are the pairs any good? Yield per kept prompt, margin, and which side is longer (tokens).
-- by: model
WITH kept AS (SELECT model, count(*) AS prompts FROM prompts WHERE dropped IS NULL GROUP BY model),
sides AS (
    SELECT scores.model, prompt_id, max(tokens) FILTER (fate = 'chosen') AS chosen, max(tokens) FILTER (fate = 'rejected') AS rejected
    FROM scores JOIN candidates USING (model, candidate_id, prompt_id)
    WHERE fate IN ('chosen', 'rejected')
    GROUP BY scores.model, prompt_id
)
SELECT
    kept.model,
    kept.prompts,
    count(pairs.prompt_id) AS pairs,
    count(pairs.prompt_id) / kept.prompts AS yield,
    avg(chosen_score - rejected_score) AS mean_margin,
    median(chosen_score - rejected_score) AS median_margin,
    avg(sides.chosen) AS chosen_tokens,
    avg(sides.rejected) AS rejected_tokens,
    avg((sides.chosen > sides.rejected)::INT) AS chosen_is_longer,
FROM kept
LEFT JOIN pairs ON pairs.model = kept.model
LEFT JOIN sides ON sides.model = pairs.model AND sides.prompt_id = pairs.prompt_id
GROUP BY kept.model, kept.prompts
ORDER BY length(kept.model), kept.model
