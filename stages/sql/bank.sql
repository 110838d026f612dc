-- What does each judge think of each model's answers on the frozen bank? Mean scores beside the checker's of the same answers, and how many could not be read; the judge's own answers are those where author is judge.
-- by: judge, author
-- may lack: bank, bank_scores
WITH authors AS (SELECT candidate_id, unnest(authors) AS author, oracle_score FROM bank),
opinions AS (
    SELECT
        judge, author,
        count(*) AS answers,
        avg(score) AS score,
        avg(oracle_score) AS checker,
        avg(score - oracle_score) AS over,
        count(*) - count(score) AS unreadable,
    FROM bank_scores JOIN authors USING (candidate_id)
    GROUP BY judge, author
)
FROM opinions
ORDER BY judge <> 'SFT', length(judge), judge, author <> 'people', author <> 'SFT', length(author), author
