-- What does a score mean? Held-out answers by the judge's mean score, rounded to whole points: people's mean rank (0 is best), the share that people ranked best, and how far the readable judgements of one answer lie apart on average.
-- may lack: judged, test_judgements
WITH spreads AS (
    SELECT model, candidate_id, max(score) - min(score) AS apart FROM test_judgements GROUP BY ALL HAVING count(score) > 1
), answers AS (
    SELECT *, floor(score + 0.5)::INTEGER AS whole, human_rank = min(human_rank) OVER (PARTITION BY model, prompt_id) AS best FROM judged
), counts AS (
    SELECT
        model, whole AS score,
        count(*) AS answers,
        avg(human_rank) AS mean_rank,
        avg(best::INTEGER) AS best,
        avg(apart) AS tries_apart,
    FROM answers LEFT JOIN spreads USING (model, candidate_id)
    WHERE answers.score IS NOT NULL
    GROUP BY model, whole
)
FROM counts
ORDER BY model <> 'SFT', length(model), model, score
