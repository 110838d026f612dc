-- How do the judge's scores spread? Every single judgement; a null score could not be read.
-- by: model, score
SELECT model, score, count(*) AS judgements, count(*) / sum(count(*)) OVER (PARTITION BY model) AS share
FROM judgements
GROUP BY model, score
ORDER BY length(model), model, score NULLS LAST
