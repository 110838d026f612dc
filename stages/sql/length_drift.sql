-- Do answers grow from iteration to iteration? Tokens of all candidates, chosen and rejected, and how length and score go together (correlation).
-- by: model
WITH lengths AS (SELECT model, avg(tokens) AS before FROM candidates GROUP BY model)
SELECT
    candidates.model,
    count(*) AS candidates,
    avg(tokens) AS tokens,
    median(tokens) AS median_tokens,
    avg(tokens) / any_value(before) - 1 AS growth,
    avg(tokens) FILTER (fate = 'chosen') AS chosen,
    avg(tokens) FILTER (fate = 'rejected') AS rejected,
    nullif(corr(tokens, score), 'nan'::DOUBLE) AS with_score,
FROM candidates LEFT JOIN scores USING (model, candidate_id) LEFT JOIN models USING (model) LEFT JOIN lengths ON lengths.model = prev
GROUP BY candidates.model
ORDER BY length(candidates.model), candidates.model
