-- Do answers grow from iteration to iteration? Tokens of all candidates, chosen and rejected, and how length and score go together (correlation).
-- by: model
SELECT
    candidates.model,
    count(*) AS candidates,
    avg(tokens) AS tokens,
    median(tokens) AS median_tokens,
    avg(tokens) / lag(avg(tokens)) OVER (ORDER BY length(candidates.model), candidates.model) - 1 AS growth,
    avg(tokens) FILTER (fate = 'chosen') AS chosen,
    avg(tokens) FILTER (fate = 'rejected') AS rejected,
    nullif(corr(tokens, score), 'nan'::DOUBLE) AS with_score,
FROM candidates LEFT JOIN scores USING (model, candidate_id)
GROUP BY candidates.model
ORDER BY length(candidates.model), candidates.model
