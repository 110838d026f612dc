-- Which held-out prompts got worse from $other to $model? Greedy answers, by the checker's score where there is one, else by the head-to-head verdict.
-- $model: the last of `evaluated` by default. $other: the first of those that it has a match against, else of all.
-- may lack: verdicts
WITH names AS (SELECT model, any_value(evaluated) AS place FROM answers LEFT JOIN models USING (model) GROUP BY model),
asked AS (
    SELECT coalesce($model, (SELECT model FROM names ORDER BY place DESC NULLS LAST, model <> 'SFT' DESC, length(model) DESC, model DESC LIMIT 1)) AS model
), matched AS (
    SELECT DISTINCT other FROM verdicts JOIN asked USING (model)
), sides AS (
    SELECT model, coalesce($other, (
        SELECT names.model FROM names JOIN asked ON names.model <> asked.model LEFT JOIN matched ON other = names.model
        ORDER BY other IS NULL, place, names.model <> 'SFT', length(names.model), names.model LIMIT 1
    )) AS other
    FROM asked
), verdict AS (
    SELECT prompt_id, CASE verdict WHEN 'win' THEN 1.0 WHEN 'tie' THEN 0.0 WHEN 'lose' THEN -1.0 END AS step
    FROM verdicts JOIN sides USING (model, other) WHERE decoding = 'greedy'
)
SELECT
    new.model, old.model AS other, coalesce(new.oracle_score - old.oracle_score, verdict.step) AS change,
    prompt, old.response AS before, new.response AS after, old.oracle_score AS score_before, new.oracle_score AS score_after, new.prompt_id,
FROM sides
JOIN answers AS new ON new.model = sides.model AND new.decoding = 'greedy'
JOIN answers AS old ON old.model = sides.other AND old.decoding = 'greedy' AND old.prompt_id = new.prompt_id
JOIN test_prompts ON test_prompts.prompt_id = new.prompt_id
LEFT JOIN verdict ON verdict.prompt_id = new.prompt_id
WHERE change < 0
ORDER BY change ASC, new.prompt_id
LIMIT 20
