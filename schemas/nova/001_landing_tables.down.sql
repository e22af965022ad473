-- SPDX-License-Identifier: Apache-2.0

DROP VIEW IF EXISTS follower_growth_daily_mv;
DROP VIEW IF EXISTS post_likes_hourly_mv;
DROP TABLE IF EXISTS follower_growth_daily;
DROP TABLE IF EXISTS post_likes_hourly;
DROP TABLE IF EXISTS follows_cdc;
DROP TABLE IF EXISTS likes_cdc;
DROP TABLE IF EXISTS posts_cdc;
