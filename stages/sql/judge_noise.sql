-- How far apart are the K judgements of one text? By spread (highest minus lowest readable score, to the half); null: fewer than two could be read. Cut-off answers are judged by nobody, equal texts once.
-- by: model, spread_of_k
SELECT
    model,
    CASE WHEN parsed > 1 THEN round(2 * spread) / 2 END AS spread_of_k,
    count(*) AS candidates,
    count(*) / sum(count(*)) OVER (PARTITION BY model) AS share,
    avg(score) AS mean_score,
FROM scores
WHERE fate NOT IN ('cut_off', 'duplicate', 'unjudged')
GROUP BY model, spread_of_k
ORDER BY length(model), model, spread_of_k NULLS LAST
