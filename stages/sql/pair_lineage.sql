-- Where does a pair come from? Candidates, what the judge said of each, the prompt, the examples its writer saw, down to seed rows.
-- $prompt_id: the first pair by default, so that the question needs no value. $model: whose AIFT; the first that has it by default.
WITH pair AS (
    SELECT * FROM pairs
    WHERE prompt_id = coalesce($prompt_id, (SELECT min(prompt_id) FROM pairs WHERE $model IS NULL OR model = $model)) AND ($model IS NULL OR model = $model)
    ORDER BY length(model), model LIMIT 1
), shot AS (
    SELECT unnest(shots) AS id, generate_subscripts(shots, 1) AS place FROM prompts WHERE (model, prompt_id) = (SELECT (model, prompt_id) FROM pair)
), side AS (
    SELECT 1 AS place, 'chosen' AS side, chosen_id AS id, chosen AS text, chosen_score AS score FROM pair
    UNION ALL SELECT 2, 'rejected', rejected_id, rejected, rejected_score FROM pair
), step AS (
    SELECT 1 AS step, place, 0 AS k, side AS what, id, score, text FROM side
    UNION ALL SELECT 2, place, k, 'judgement of ' || side || ', by ' || judge, id, judgements.score, judgements.text
        FROM side JOIN judgements ON candidate_id = id WHERE judgements.model = (SELECT model FROM pair)
    UNION ALL SELECT 3, 0, 0, 'prompt, written by ' || writer, prompt_id, NULL, prompt FROM prompts WHERE (model, prompt_id) = (SELECT (model, prompt_id) FROM pair)
    UNION ALL SELECT 4, place, 0, 'shown to the writer: seed row ' || source || ' ' || source_id, id, NULL, instruction FROM shot JOIN ift ON ift_id = id
    UNION ALL SELECT 4, place, 0, 'shown to the writer: earlier new prompt', id, NULL, prompt
        FROM shot JOIN prompts ON prompt_id = id AND model = (SELECT model FROM pair)
)
SELECT what, id, score, text FROM step ORDER BY step, place, k
