-- What became of every candidate? The bins of a model add up to its row `all`.
-- by: model, fate
SELECT
    model,
    coalesce(fate, 'all') AS fate,
    count(*) AS candidates,
    count(*) / max(count(*)) OVER (PARTITION BY model) AS share,
    avg(score) AS mean_score,
FROM scores
GROUP BY GROUPING SETS ((model, fate), (model))
ORDER BY length(model), model, GROUPING(fate), fate
