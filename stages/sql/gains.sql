-- What did each model gain on $other, prompt by prompt? The difference of two means on the same held-out prompts, low to high its 95 % interval (Student t over prompts); null below 20 prompts, or where no prompt differs.
-- $other: the first of `evaluated` by default.
-- by: model, other, measure
-- may lack: answers, judged
WITH readable AS (
    SELECT model, prompt_id, human_rank, score FROM judged WHERE score IS NOT NULL
), by_prompt AS (
    SELECT model, 'agreement' AS measure, prompt_id, sum(CASE WHEN a.score > b.score THEN 1 WHEN a.score = b.score THEN 0.5 ELSE 0 END) AS top, count(*) AS below
        FROM readable AS a JOIN readable AS b USING (model, prompt_id) WHERE a.human_rank < b.human_rank GROUP BY ALL
    UNION ALL SELECT model, 'oracle_score', prompt_id, oracle_score, 1 FROM answers WHERE decoding = 'greedy' AND oracle_score IS NOT NULL
    UNION ALL SELECT model, 'tokens', prompt_id, tokens, 1 FROM answers WHERE decoding = 'greedy'
), means AS (
    SELECT model, measure, sum(top) / sum(below) AS value, sum(below)::BIGINT AS n FROM by_prompt GROUP BY ALL
), base AS (
    SELECT coalesce($other, (SELECT model FROM means LEFT JOIN models USING (model) ORDER BY evaluated, model <> 'SFT', length(model), model LIMIT 1)) AS other
), sides AS (
    SELECT new.model, other, measure, new.value, old.value AS value_other, new.n
    FROM base JOIN means AS old ON old.model = other JOIN means AS new USING (measure) WHERE new.model <> other
), steps AS (  -- how much each prompt moves the difference (linearised: a ratio of sums is no mean of prompts)
    SELECT sides.model, measure, prompt_id, sum((top - means.value * below) / means.n * if(means.model = sides.other, -1, 1)) AS step
    FROM sides JOIN by_prompt USING (measure) JOIN means ON means.model = by_prompt.model AND means.measure = by_prompt.measure
    WHERE by_prompt.model IN (sides.model, sides.other)
    GROUP BY ALL
), errors AS (
    SELECT model, measure, count(*) AS prompts, (1.96 + 2.37 / (prompts - 1)) * nullif(sqrt(sum(step ** 2) * prompts / (prompts - 1)), 0) AS half
    FROM steps GROUP BY model, measure HAVING prompts > 1
)
SELECT
    model, other, measure, value, value_other, n, prompts,
    value - value_other AS gain,
    CASE WHEN prompts >= 20 THEN gain - half END AS low,
    CASE WHEN prompts >= 20 THEN gain + half END AS high,
FROM sides LEFT JOIN errors USING (model, measure)
ORDER BY measure, length(model), model
