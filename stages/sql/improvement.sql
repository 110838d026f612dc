-- Is M3 better than M1? Every metric of every model, with its 95 % interval where there is one.
-- by: model, metric
SELECT model, metric, value, low, high
FROM metrics
WHERE dataset = model AND (metric LIKE 'writer.%' OR metric LIKE 'judge.%')
ORDER BY metric, model <> 'SFT', length(model), model
